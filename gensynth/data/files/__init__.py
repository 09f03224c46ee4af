"""Reading images where they lie: folders, tars, npz files and Parquet."""
