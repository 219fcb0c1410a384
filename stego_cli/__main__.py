"""`python -m stego_cli` is `stego`."""

from __future__ import annotations

from stego_cli.cli import main

if __name__ == "__main__":
    main()
