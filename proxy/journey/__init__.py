"""One exchange's way from its candidates to an answer."""
