"""Sources of images, the balanced manifest, exports."""
