DROP FUNCTION keep_row_version();

REVOKE SELECT ON _sqlx_migrations FROM app;
