"""What clients see while one of four model servers is ready, and ill: behind a real Envoy, simulated, in process."""
