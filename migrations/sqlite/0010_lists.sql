-- What operators list: the upgrades in a cell, the newest first, and the packages of a product.
CREATE INDEX upgrades_of_cell ON upgrades (cell, id) WHERE cell IS NOT NULL;
CREATE INDEX packages_of_product ON packages (product, id) WHERE deleted_at IS NULL;
