"""The sample cases: three phantoms that differ in geometry, in the platform's folder layout."""
