"""Scraping the metrics pages of model servers: asynchronous, with one connection for each endpoint."""

from inferencepool.runtime.scraping._options import ScrapingOptions, ScrapingTls
from inferencepool.runtime.scraping._rhythm import Rhythm
from inferencepool.runtime.scraping._scraper import MetricsScraper
from inferencepool.runtime.scraping._statistics import EndpointScrapes, ScrapingStatistics

__all__ = ["EndpointScrapes", "MetricsScraper", "Rhythm", "ScrapingOptions", "ScrapingStatistics", "ScrapingTls"]
