"""Can a bit selector beat one width for all images at the same cost? Several are tried."""
