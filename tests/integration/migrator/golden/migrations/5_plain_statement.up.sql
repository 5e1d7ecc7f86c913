-- no-transaction
CREATE TYPE mood AS ENUM ('ok', 'größer');