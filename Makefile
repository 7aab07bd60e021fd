# Short names for `python -m sandbox <command>`, which does the work and runs without make as well.
PYTHON ?= python3
.DEFAULT_GOAL := help
.PHONY: demo test test-all up down bench lint docs help

demo: ## Show accounts going both ways between two stand-ins; ends in OK or in what differs
	@$(PYTHON) -m sandbox demo

test: ## Check style, types, imports and docs, then run the tests (12 minutes at most)
	@$(PYTHON) -m sandbox test

test-all: ## The same with the slow tests, without a time limit
	@$(PYTHON) -m sandbox test-all

up: ## Start everything, fill both sides, print the addresses and leave it running
	@$(PYTHON) -m sandbox up

down: ## Stop what `up` started
	@$(PYTHON) -m sandbox down

bench: ## Measure speed; prints a table
	@$(PYTHON) -m sandbox bench

lint: ## Check style, types and imports only
	@$(PYTHON) -m sandbox lint

docs: ## Write the generated pages again
	@$(PYTHON) -m sandbox docs

help: ## Show this list
	@$(PYTHON) -m sandbox help
