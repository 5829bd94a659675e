"""`memorystreamer quickstart`: a secured appliance on one machine, to try it out."""
