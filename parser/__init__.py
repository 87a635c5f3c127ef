"""What logs say: layouts, kernels and summaries. Knows no server and no socket."""
