-- Adds one sealed sample, in the order of the columns.
INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
