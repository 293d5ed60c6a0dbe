"""A page of trials that may be thousands and still going: rows.py makes them rows, page.py the page that shows them."""
