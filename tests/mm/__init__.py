"""Tests of the page cache and writeback."""
