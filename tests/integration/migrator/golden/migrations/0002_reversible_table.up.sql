-- Two statements, and a comment with a ; in it.
CREATE TABLE reversible (
    id bigint GENERATED ALWAYS AS IDENTITY,
    simple_id bigint REFERENCES simple (id)
);
COMMENT ON TABLE reversible IS 'It''s; fine';
