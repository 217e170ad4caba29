"""The page that a person looks at: values of the other layers become one HTML file without scripts or links."""
