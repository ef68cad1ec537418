"""An audit shown to people: terminal, HTML, figures."""
