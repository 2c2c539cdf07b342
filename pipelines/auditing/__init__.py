"""An auditor that shares no code with the simulator, and markets on which nobody may earn."""
