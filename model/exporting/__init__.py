"""The parts of an export: graph, TFLite conversion, manifest, runtimes, and a decoder to take along."""
