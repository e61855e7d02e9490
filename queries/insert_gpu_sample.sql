-- Adds one sealed reading of a GPU, in the order of the columns.
INSERT INTO gpu_samples VALUES (?, ?, ?, ?, ?, ?, ?, ?)
