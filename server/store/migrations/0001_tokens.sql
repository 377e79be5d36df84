ALTER TABLE `results` ADD `generator_name` text;--> statement-breakpoint
ALTER TABLE `results` ADD `generator_hash` text;--> statement-breakpoint
ALTER TABLE `results` ADD `tokens` text;--> statement-breakpoint
ALTER TABLE `results` ADD `unquantized` text REFERENCES blobs(id);--> statement-breakpoint
CREATE INDEX `results_by_unquantized` ON `results` (`unquantized`);