-- Whether the cell's limit follows how crowded it is; NULL: as for all cells.
ALTER TABLE cells ADD COLUMN adaptive INTEGER;
