"""Tables, figures and the page about finished runs."""
