-- Gateways. 'via' is the endpoint name of the gateway through which a device is reached. 'mqtt_credential' may also be 'gateway': the
-- device has no connection over MQTT of its own, and is reached through a gateway, also where it is not known yet which one.
ALTER TABLE devices ADD COLUMN via TEXT;
CREATE INDEX devices_by_gateway ON devices (via, endpoint) WHERE via IS NOT NULL;
