"""The chapter on optimization as pictures: `python -m examples.textbook` draws them all and writes a page of them."""
