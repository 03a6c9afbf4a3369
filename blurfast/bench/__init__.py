"""Measure blurfast beside other libraries and beside what the machine can do: `blurfast bench`.

A `cases.Case` is what is measured, a `libraries.Library` who is measured, and a `report.Report` what came out. Tables,
plots, pages and comparisons are made from reports alone.
"""
