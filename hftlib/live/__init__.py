"""The served policy: artefacts, service, paper trading."""
