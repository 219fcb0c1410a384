"""No head: the baseline of the STEGO study."""
