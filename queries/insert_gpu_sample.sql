-- Adds one sealed reading of a GPU, in the order of the columns.
INSERT INTO gpu_samples VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
