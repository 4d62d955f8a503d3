"""The comparison report: results in; tables, figures, one page and its plain text out."""
