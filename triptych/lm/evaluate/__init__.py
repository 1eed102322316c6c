"""Judge: loss and bits per byte, honest yardsticks, comparisons, reports, outside tasks."""
