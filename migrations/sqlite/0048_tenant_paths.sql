-- Devices of a site or of a model are looked for within their tenant: where others have many of the same, the two indexes of all lead through
-- these. The tenant that there always is keeps to those, so that an installation with one tenant writes nothing more.
CREATE INDEX devices_of_tenant_by_site ON devices (tenant, site, endpoint) WHERE site IS NOT NULL AND tenant <> 'default';
CREATE INDEX devices_of_tenant_by_model ON devices (tenant, model, endpoint) WHERE model IS NOT NULL AND tenant <> 'default';
