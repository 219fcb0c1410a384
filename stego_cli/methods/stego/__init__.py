"""STEGO (Hamilton et al., ICLR 2022)."""
