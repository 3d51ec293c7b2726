-- Products with their settings. One without a row is as all others are, and its packages need no signature.
CREATE TABLE products (
    tenant     TEXT    NOT NULL DEFAULT 'default',
    name       TEXT    NOT NULL,
    -- a JSON object of what may stand under [products.NAME] in a settings file; what is missing is as usual
    settings   TEXT    NOT NULL,
    signatures TEXT    NOT NULL CHECK (signatures IN ('optional', 'required')),
    -- grows with each change, and beyond what a product of this name had before it was removed
    revision   INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

INSERT INTO products (name, settings, signatures, revision) SELECT product, '{}', signatures, revision FROM product_rules;
DROP TABLE product_rules;
