"""What clients see behind a real Envoy while one of four model servers is ready, and ill."""
