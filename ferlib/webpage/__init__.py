"""The web page: photos uploaded or taken by the webcam, their faces, probabilities and attribution maps."""
