"""The same requests live, through a real Envoy to simulated servers in real time, and in the simulator."""
