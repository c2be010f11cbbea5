"""The pictures of the chapters that only one chapter has: each draws the arrays that a cell computed."""
