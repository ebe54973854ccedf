"""Scraping model servers: reading their pages, fetching them, and what it costs."""
