-- To whom things belong. A tenant that was deleted keeps its row: its name is never given to another.
CREATE TABLE tenants (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    -- counts its changes, from 1
    revision   INTEGER NOT NULL DEFAULT 1,
    deleted_at INTEGER
) STRICT, WITHOUT ROWID;
-- what is there belongs to it; nobody has to know of it
INSERT INTO tenants (id, name, created_at) VALUES ('default', 'Default', 0);

-- A product of another tenant is kept as tenant/product, so that whatever has the same product has the same tenant.
ALTER TABLE devices ADD COLUMN tenant TEXT GENERATED ALWAYS AS
    (IIF(instr(product, '/') = 0, 'default', substr(product, 1, instr(product, '/') - 1))) VIRTUAL;
ALTER TABLE devices ADD COLUMN product_name TEXT GENERATED ALWAYS AS (substr(product, instr(product, '/') + 1)) VIRTUAL;
CREATE INDEX devices_by_tenant ON devices (tenant, endpoint);
-- Nothing belongs to a tenant that is not there, whatever else goes on. Whoever adds devices looks at that by himself: a trigger for each
-- of a million would take longer than to write it.
CREATE TRIGGER devices_moved_to_tenant BEFORE UPDATE OF product ON devices WHEN instr(NEW.product, '/') > 0
    AND NOT EXISTS (SELECT 1 FROM tenants WHERE id = substr(NEW.product, 1, instr(NEW.product, '/') - 1) AND deleted_at IS NULL) BEGIN
    SELECT RAISE(ABORT, 'the tenant of the device is not there');
END;
CREATE TRIGGER packages_added_to_tenant BEFORE INSERT ON packages WHEN instr(NEW.product, '/') > 0
    AND NOT EXISTS (SELECT 1 FROM tenants WHERE id = substr(NEW.product, 1, instr(NEW.product, '/') - 1) AND deleted_at IS NULL) BEGIN
    SELECT RAISE(ABORT, 'the tenant of the package is not there');
END;
-- What another tenant has said of a device of this name is no matter of this one: it is in no group, and not excluded. An exclusion
-- of a device that was not there yet has no tenant.
ALTER TABLE exclusions ADD COLUMN tenant TEXT;
UPDATE exclusions SET tenant = (SELECT d.tenant FROM devices d WHERE d.endpoint = exclusions.endpoint);
CREATE TRIGGER exclusions_of_tenant AFTER INSERT ON exclusions BEGIN
    UPDATE exclusions SET tenant = (SELECT d.tenant FROM devices d WHERE d.endpoint = NEW.endpoint) WHERE endpoint = NEW.endpoint;
END;
CREATE TRIGGER devices_moved AFTER UPDATE OF product ON devices
WHEN substr(OLD.product, 1, instr(OLD.product, '/')) <> substr(NEW.product, 1, instr(NEW.product, '/')) BEGIN
    DELETE FROM exclusions WHERE endpoint = NEW.endpoint;
    DELETE FROM group_members WHERE endpoint = NEW.endpoint;
    DELETE FROM device_series WHERE device_id = NEW.id;
END;
ALTER TABLE packages ADD COLUMN tenant TEXT GENERATED ALWAYS AS
    (IIF(instr(product, '/') = 0, 'default', substr(product, 1, instr(product, '/') - 1))) VIRTUAL;
CREATE INDEX packages_of_tenant ON packages (tenant, id) WHERE deleted_at IS NULL;

ALTER TABLE events ADD COLUMN tenant TEXT GENERATED ALWAYS AS
    (IIF(instr(product, '/') = 0, 'default', substr(product, 1, instr(product, '/') - 1))) VIRTUAL;

-- That of its packages.
ALTER TABLE tasks ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
CREATE INDEX tasks_of_tenant ON tasks (tenant, id);

ALTER TABLE device_groups ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
CREATE INDEX device_groups_of_tenant ON device_groups (tenant, id) WHERE removed = 0;
DROP INDEX device_groups_by_name;
CREATE UNIQUE INDEX device_groups_by_name ON device_groups (tenant, name) WHERE removed = 0;

-- Whose events it is told; NULL: everybody's. One for a task has that of the task.
ALTER TABLE webhooks ADD COLUMN tenant TEXT;

-- Whose matter a row is; NULL: the carrier's. It is kept beside what is hashed.
ALTER TABLE audit ADD COLUMN tenant TEXT;
CREATE INDEX audit_by_tenant ON audit (tenant, number) WHERE tenant IS NOT NULL;

-- Whoever is granted everything has everybody's; whoever is granted some devices has those of the tenant that there was.
UPDATE api_tokens SET grants = (SELECT json_group_array(json_set(j.value, '$.tenant',
    IIF(j.value ->> 'filter' IS NULL, '*', 'default'))) FROM json_each(api_tokens.grants) j);
UPDATE users SET grants = (SELECT json_group_array(json_set(j.value, '$.tenant',
    IIF(j.value ->> 'filter' IS NULL, '*', 'default'))) FROM json_each(users.grants) j);
