"""Folders of images and labelled data sets."""
