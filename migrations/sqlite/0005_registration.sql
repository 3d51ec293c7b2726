-- What a registration tells: the version of LwM2M, the transports, and what the device has: the links of its objects and
-- the path below which they are. NULL where it tells nothing, and of registrations from before.
ALTER TABLE devices ADD COLUMN reg_lwm2m_version TEXT;
ALTER TABLE devices ADD COLUMN reg_binding TEXT;
ALTER TABLE devices ADD COLUMN reg_objects TEXT;
ALTER TABLE devices ADD COLUMN reg_root_path TEXT;
