DROP TABLE reversible;
