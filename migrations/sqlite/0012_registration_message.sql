-- The CoAP message ID of the registration, which tells what the device has sent before from what it sent after.
ALTER TABLE devices ADD COLUMN reg_message_id INTEGER;
