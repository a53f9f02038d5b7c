"""Would an SRE believe it? Scenarios in files, played on a real Envoy or on its offline twin."""
