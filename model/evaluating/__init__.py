"""The parts of `ytrue.model.evaluate`: what is compared, and each way of comparing it."""
