"""The five articles: what they print (formulas, findings), their own networks, and the map from them to the chapters."""
