"""Figures, tables and metrics of reports."""
