"""The verification report as a page for the browser."""
