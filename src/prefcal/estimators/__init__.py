"""From forecasts and outcomes to numbers: events, cell tables, null laws, intervals."""
