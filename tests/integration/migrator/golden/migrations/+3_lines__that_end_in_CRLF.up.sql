CREATE TABLE crlf (a int);
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$
    SELECT 1; -- ;
$$;
