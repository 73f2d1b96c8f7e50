"""Pages from results: verdict, sections, charts, markup."""
