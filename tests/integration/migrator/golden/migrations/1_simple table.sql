CREATE TABLE simple (id bigint PRIMARY KEY, name text);
