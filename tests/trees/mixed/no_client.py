nothing to be parsed here (:
